//! The version byte.

use std::fmt;

use super::VERSION;

/// Byte 0 of a message: the major version in the high half, the minor version in the low half.
///
/// Peers understand each other if their majors are equal. Known programs send 0x01 or 0x02.
///
/// ```
/// use linksocks_sansio::wire::{VERSION, Version};
/// assert!(Version(0x02).is_compatible() && !Version(0x11).is_compatible());
/// assert_eq!((VERSION.major(), VERSION.minor()), (0, 1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u8);

impl Version {
    /// The high half: peers of different majors can't talk.
    #[must_use]
    pub const fn major(self) -> u8 {
        self.0 >> 4
    }

    /// The low half: differences are harmless.
    #[must_use]
    pub const fn minor(self) -> u8 {
        self.0 & 0x0F
    }

    /// Whether messages of this version can be read.
    #[must_use]
    pub const fn is_compatible(self) -> bool {
        self.major() == VERSION.major()
    }
}

/// As in `0x01`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn only_the_major_half_decides() {
        for byte in 0..=u8::MAX {
            assert_eq!(Version(byte).is_compatible(), byte <= 0x0F, "{byte:#04x}");
        }
        assert_eq!((Version(0x12).major(), Version(0x12).minor()), (1, 2));
    }

    #[test]
    fn it_is_shown_as_the_byte() {
        assert_eq!(Version(0x02).to_string(), "0x02");
    }
}
