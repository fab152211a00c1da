//! Storage addressed by index plus generation.

use std::marker::PhantomData;

/// An id made of a slot index and the generation of the slot's current tenant.
pub(crate) trait ArenaId: Copy {
    /// Puts an id together.
    fn from_parts(index: u32, generation: u32) -> Self;
    /// Takes an id apart into index and generation.
    fn parts(self) -> (u32, u32);
}

/// A slab whose ids go stale when their value is removed, so that late inputs for a closed object
/// are recognised and never reach the next tenant of the slot.
#[derive(Debug)]
pub(crate) struct Arena<I, T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
    id: PhantomData<I>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<I, T> Default for Arena<I, T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0, id: PhantomData }
    }
}

impl<I: ArenaId, T> Arena<I, T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores `value` and returns its id.
    pub(crate) fn insert(&mut self, value: T) -> I {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return I::from_parts(index, slot.generation);
        }
        let index =
            u32::try_from(self.slots.len()).expect("an engine holds fewer than 2^32 objects of a kind");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        I::from_parts(index, 0)
    }

    pub(crate) fn get(&self, id: I) -> Option<&T> {
        let (index, generation) = id.parts();
        let slot = self.slots.get(index as usize)?;
        if slot.generation == generation { slot.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        let (index, generation) = id.parts();
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation == generation { slot.value.as_mut() } else { None }
    }

    /// Removes the value; its id is stale from now on.
    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let (index, generation) = id.parts();
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.len -= 1;
        Some(value)
    }

    /// All live values in index order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.slots.iter().zip(0u32..).filter_map(|(slot, index)| {
            slot.value.as_ref().map(|value| (I::from_parts(index, slot.generation), value))
        })
    }

    /// The ids of all live values in index order.
    pub(crate) fn ids(&self) -> Vec<I> {
        self.iter().map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Arena;
    use crate::ids::SocketId;

    #[test]
    fn a_removed_id_never_names_the_next_tenant() {
        let mut arena = Arena::<SocketId, &str>::default();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(first.index, second.index);
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(second), Some(&"second"));
        assert_eq!(arena.len(), 1);
    }
}
