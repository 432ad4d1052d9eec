//! What a sample includes on request, and how the request names it.

use afd_probe::library::SAMPLE;

/// What a sample includes on request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SampledExtras {
    /// The processes of each GPU.
    pub processes: bool,
    /// The values of each NVLink.
    pub links: bool,
}

const REQUESTS: [(SampledExtras, &str); 4] = [
    (SampledExtras { processes: false, links: false }, SAMPLE),
    (SampledExtras { processes: true, links: false }, "sample with processes"),
    (SampledExtras { processes: false, links: true }, "sample with links"),
    (SampledExtras { processes: true, links: true }, "sample with processes and links"),
];

impl SampledExtras {
    /// The request for such a sample.
    pub fn request(self) -> &'static str {
        REQUESTS.iter().find(|(extras, _)| *extras == self).map_or(SAMPLE, |(_, request)| request)
    }

    /// What a request asks for; none if it is not for a sample.
    pub fn of_request(request: &str) -> Option<SampledExtras> {
        REQUESTS.iter().find(|(_, known)| *known == request).map(|(extras, _)| *extras)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_for_what_it_was_made_of() {
        for processes in [false, true] {
            for links in [false, true] {
                let extras = SampledExtras { processes, links };
                assert_eq!(SampledExtras::of_request(extras.request()), Some(extras));
            }
        }
        assert_eq!(SampledExtras::of_request("discover"), None);
    }
}
