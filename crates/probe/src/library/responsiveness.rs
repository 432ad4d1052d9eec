//! Whether a library answers, by how its requests end.

use afd_model::LibraryStatus;

/// The state between requests.
#[derive(Debug, Default)]
pub(super) struct Responsiveness {
    status: LibraryStatus,
    /// Whether it has answered since it was first queried, or queried again after a release.
    has_answered: bool,
    /// Requests in a row that returned without an answer, since it was still pending.
    pending: u32,
}

impl Responsiveness {
    /// What it last did.
    pub(super) fn status(&self) -> LibraryStatus {
        self.status
    }

    /// Nothing is queried, or everything begins again.
    pub(super) fn reset(&mut self, status: LibraryStatus) {
        *self = Responsiveness { status, ..Responsiveness::default() };
    }

    /// There is no library.
    pub(super) fn absent(&mut self) {
        (self.status, self.pending) = (LibraryStatus::NotFound, 0);
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        *self = Responsiveness { status: LibraryStatus::Answering, has_answered: true, pending: 0 };
    }

    /// It answered that it cannot be used.
    pub(super) fn refused(&mut self) {
        (self.status, self.pending) = (LibraryStatus::Silent, 0);
    }

    /// A request failed.
    pub(super) fn failed(&mut self) {
        (self.status, self.pending) = (self.without_answer(), 0);
    }

    /// The answer is still pending. One that takes longer than a single call waits is normal.
    pub(super) fn pending(&mut self) {
        self.pending += 1;
        if self.pending > 1 || !self.has_answered {
            self.status = self.without_answer();
        }
    }

    fn without_answer(&self) -> LibraryStatus {
        if self.has_answered { LibraryStatus::Silent } else { LibraryStatus::Starting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_starts_until_it_answers_and_is_silent_when_an_answer_stays_pending() {
        let mut library = Responsiveness::default();
        assert_eq!(library.status(), LibraryStatus::Unused);
        library.pending();
        library.failed();
        library.pending();
        assert_eq!(library.status(), LibraryStatus::Starting);
        library.answered();
        library.pending();
        assert_eq!(library.status(), LibraryStatus::Answering, "a slow answer is normal");
        library.answered();
        library.pending();
        library.pending();
        assert_eq!(library.status(), LibraryStatus::Silent);
        library.answered();
        library.failed();
        library.pending();
        assert_eq!(library.status(), LibraryStatus::Silent, "another process does not answer either");
        library.reset(LibraryStatus::Starting);
        library.failed();
        assert_eq!(library.status(), LibraryStatus::Starting);
        library.refused();
        assert_eq!(library.status(), LibraryStatus::Silent);
        library.absent();
        assert_eq!(library.status(), LibraryStatus::NotFound);
    }
}
