//! The last values of a source, which count for a while after it has failed. Pure.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use crate::report::{RuntimeContainer, RuntimeValue, SourceAnswer};

/// How long values count after the source that sent them has failed.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The last values of a source.
#[derive(Debug)]
pub(crate) struct LatestValues {
    title: Cow<'static, str>,
    values: Option<(Instant, Vec<RuntimeValue>)>,
    /// Why it has sent no newer ones.
    failure: Option<String>,
}

impl LatestValues {
    /// Of a source of this name in a problem.
    pub(crate) fn new(title: &'static str) -> LatestValues {
        LatestValues { title: title.into(), values: None, failure: None }
    }

    /// Of the runtime of a container in a pod.
    pub(crate) fn of_pod(container: &RuntimeContainer) -> LatestValues {
        let RuntimeContainer { namespace, pod, .. } = container;
        let title = format!("the TPU runtime of pod {namespace}/{pod}").into();
        LatestValues { title, values: None, failure: None }
    }

    /// The values; empty if there are none.
    pub(crate) fn latest(&self) -> &[RuntimeValue] {
        self.values.as_ref().map_or(&[], |(_, values)| values)
    }

    /// Whether it has sent nothing that counts.
    pub(crate) fn is_silent(&self) -> bool {
        self.values.is_none()
    }

    /// Why it has sent no newer values, if it has not.
    pub(crate) fn problem(&self) -> Option<String> {
        Some(format!("{}: {}", self.title, self.failure.as_ref()?))
    }

    /// What it last answered: why there are no newer values, or the values.
    pub(crate) fn answer(&self) -> Option<SourceAnswer> {
        let values = self.values.as_ref().map(|(_, values)| SourceAnswer::Values(values.clone()));
        self.failure.clone().map(SourceAnswer::Failed).or(values)
    }

    /// Forgets the values.
    pub(crate) fn clear(&mut self) {
        self.values = None;
    }

    /// Takes in an answer; none where nothing listens.
    pub(crate) fn take(&mut self, answer: Option<SourceAnswer>, now: Instant) {
        self.failure = None;
        match answer {
            Some(SourceAnswer::Values(values)) => self.values = Some((now, values)),
            Some(SourceAnswer::Failed(reason)) => {
                self.expire(now);
                self.failure = Some(reason);
            }
            None => self.values = None,
        }
    }

    /// Forgets values that are too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.values.take_if(|(taken_at, _)| now.saturating_duration_since(*taken_at) >= MAX_AGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::RuntimeQuantity;

    #[test]
    fn values_of_a_source_that_fails_count_for_a_minute_and_those_of_an_absent_one_not_at_all() {
        let value = RuntimeValue {
            quantity: RuntimeQuantity::DutyCycle,
            container: None,
            device: 0,
            value: Some(1.0),
        };
        let (mut latest, start) = (LatestValues::new("x"), Instant::now());
        let failed = || Some(SourceAnswer::Failed("late".to_owned()));
        latest.take(Some(SourceAnswer::Values(vec![value.clone()])), start);
        latest.take(failed(), start + Duration::from_secs(59));
        assert!(latest.values.is_some() && latest.failure.is_some());
        latest.take(failed(), start + MAX_AGE);
        assert!(latest.values.is_none());
        latest.take(Some(SourceAnswer::Values(vec![value])), start);
        latest.take(None, start);
        assert!(latest.values.is_none() && latest.failure.is_none());
    }
}
