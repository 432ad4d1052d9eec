//! How often events may cause a sample before the next regular one.

/// The samples that events may cause in close succession.
const MAX: u8 = 64;

/// The samples that events may still cause. Each regular sample adds one: events without end, as the errors of a
/// job that fails again and again, double the number of samples at most.
#[derive(Clone, Copy, Debug)]
pub struct EarlySamples(u8);

impl Default for EarlySamples {
    fn default() -> EarlySamples {
        EarlySamples(MAX)
    }
}

impl EarlySamples {
    /// Whether an event may cause a sample, which is then taken.
    pub fn take(&mut self) -> bool {
        let is_left = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        is_left
    }

    /// The next regular sample is due.
    pub fn waited(&mut self) {
        self.0 = (self.0 + 1).min(MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_end_double_the_number_of_samples() {
        let mut early = EarlySamples::default();
        assert_eq!((0..1000).filter(|_| early.take()).count(), usize::from(MAX), "each is prompt at first");
        for _ in 0..3 {
            early.waited();
            assert_eq!((0..1000).filter(|_| early.take()).count(), 1);
        }
        (0..1000).for_each(|_| early.waited());
        assert_eq!((0..1000).filter(|_| early.take()).count(), usize::from(MAX), "after a quiet time");
    }
}
