//! A set of small numbers: which fields of a message have been there.

/// Up to 64 members live on the stack.
#[derive(Debug)]
pub(crate) struct Seen {
    first: u64,
    more: Vec<u64>,
}

impl Seen {
    #[inline]
    pub(crate) fn new(size: usize) -> Self {
        let more = if size > 64 { vec![0; (size - 1) / 64] } else { Vec::new() };
        Self { first: 0, more }
    }

    /// Adds a member; whether it was there already.
    #[inline]
    pub(crate) fn insert(&mut self, member: usize) -> bool {
        let bit = 1 << (member % 64);
        let word = if member < 64 { &mut self.first } else { &mut self.more[member / 64 - 1] };
        let was = *word & bit != 0;
        *word |= bit;
        was
    }

    #[inline]
    pub(crate) fn contains(&self, member: usize) -> bool {
        let word = if member < 64 { self.first } else { self.more[member / 64 - 1] };
        word & 1 << (member % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn members_are_remembered_below_and_above_a_word() {
        let mut seen = Seen::new(200);
        for member in [0, 63, 64, 65, 127, 128, 199] {
            assert!(!seen.contains(member) && !seen.insert(member), "{member}");
            assert!(seen.contains(member) && seen.insert(member), "{member}");
        }
        assert!(!seen.contains(1) && !seen.contains(129));
    }
}
