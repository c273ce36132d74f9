//! What is told to those who ask how a decision came about. In the filter nobody asks, and nothing is written.

/// Takes notes on the way to a decision.
pub(crate) trait Steps {
    /// One step; what it says is only made if somebody reads it.
    fn note(&mut self, step: impl FnOnce() -> String);
}

/// Nobody reads.
pub(crate) struct Silent;

impl Steps for Silent {
    fn note(&mut self, _: impl FnOnce() -> String) {}
}

impl Steps for Vec<String> {
    fn note(&mut self, step: impl FnOnce() -> String) {
        self.push(step());
    }
}
