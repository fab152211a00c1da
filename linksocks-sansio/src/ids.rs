//! Identifiers that cross the border between engine and driver, or travel on the wire.
//!
//! | id | made by | lives |
//! |---|---|---|
//! | [`LinkId`], [`SocketId`], [`ListenerId`], [`QueryId`] | engine | until the driver reports the end; never given again |
//! | [`Ticket`] | driver | until the answer |
//! | [`ChannelId`], [`InstanceId`] | engine or peer, at random | on the wire |

use std::fmt;

use uuid::Uuid;

/// Declares an id that is an index into an [`Arena`](crate::arena::Arena) plus a generation, so
/// that an id kept after its object is gone never names a newer object.
macro_rules! arena_id {
    ($(#[$doc:meta])* $visibility:vis $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name {
            pub(crate) index: u32,
            pub(crate) generation: u32,
        }

        impl crate::arena::ArenaId for $name {
            fn from_parts(index: u32, generation: u32) -> Self {
                Self { index, generation }
            }
            fn parts(self) -> (u32, u32) {
                (self.index, self.generation)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}.{}"), self.index, self.generation)
            }
        }
    };
}

arena_id!(
    /// One WebSocket between two peers. Allocated by the engine.
    pub LinkId,
    "link"
);
arena_id!(
    /// One local TCP or UDP socket, or an in-memory one. Allocated by the engine.
    pub SocketId,
    "socket"
);
arena_id!(
    /// One listening TCP socket. Allocated by the engine.
    pub ListenerId,
    "listener"
);
arena_id!(
    /// One name lookup. Allocated by the engine.
    pub QueryId,
    "query"
);
arena_id!(
    /// A channel's place in the engine; the wire knows it by its [`ChannelId`].
    pub(crate) ChannelKey,
    "channel"
);
arena_id!(
    /// A UDP association's place in the engine; the wire knows it by its [`ChannelId`].
    pub(crate) AssociationKey,
    "association"
);

/// A token of a server, never reused; a client has one only. It says nothing of the token itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub(crate) u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token{}", self.0)
    }
}

/// Gives ids a number, for maps and logs of a driver.
macro_rules! numbered {
    ($($name:ident)*) => {
        $(impl $name {
            /// A number that is unique among all ids of this kind: the generation in the high
            /// half, the index in the low half.
            #[must_use]
            pub const fn as_u64(self) -> u64 {
                (self.generation as u64) << 32 | self.index as u64
            }
        })*
    };
}

numbered!(LinkId SocketId ListenerId QueryId);

/// Names something that the driver offers to the engine (an upgrade request, an accepted socket,
/// a channel that an embedder wants) until the engine answers. Allocated by the driver, never
/// reused while unanswered, and answered exactly once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The id of a channel on the wire: 16 raw bytes, shown as a UUID (protocol: message body `id`).
///
/// ```
/// use linksocks_sansio::ChannelId;
/// assert_eq!(ChannelId([0xAB; 16]).to_string(), "abababab-abab-abab-abab-abababababab");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub [u8; 16]);

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
    }
}

/// The identity of a client process, shared by all its links: a UUID (protocol: `instance`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId(pub Uuid);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}
