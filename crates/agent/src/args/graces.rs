//! Options for how long something is believed.

use std::time::Duration;

use afd_track::Graces;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::values::SecondsRange;

/// A grace as an option: its name, what it is, and its place in [`Graces`].
struct GraceOption {
    name: &'static str,
    help: &'static str,
    place: fn(&mut Graces) -> &mut Duration,
}

const OPTIONS: [GraceOption; 13] = [
    GraceOption {
        name: "removal-grace",
        help: "Until a device that the kernel no longer has counts as removed",
        place: |graces| &mut graces.removal,
    },
    GraceOption {
        name: "boot-removal-grace",
        help: "The same in the first minutes after boot",
        place: |graces| &mut graces.removal_after_boot,
    },
    GraceOption {
        name: "reconfiguration-grace",
        help: "Until fewer partitions of a device are believed",
        place: |graces| &mut graces.reconfiguration,
    },
    GraceOption {
        name: "library-start-grace",
        help: "Until health is unknown while a vendor's library initialises",
        place: |graces| &mut graces.library_start,
    },
    GraceOption {
        name: "library-grace",
        help: "Until health is unknown after a vendor's library fell silent",
        place: |graces| &mut graces.library,
    },
    GraceOption {
        name: "library-problem-grace",
        help: "Until a silent library turns the condition Problem",
        place: |graces| &mut graces.library_problem,
    },
    GraceOption {
        name: "driver-grace",
        help: "Until a device without its driver has failed, after boot or after the driver went",
        place: |graces| &mut graces.driver,
    },
    GraceOption {
        name: "fabric-grace",
        help: "Until a device whose fabric is not up has failed",
        place: |graces| &mut graces.fabric,
    },
    GraceOption {
        name: "offer-grace",
        help: "Until devices that Kubernetes does not offer turn the condition Ready; 2.5 times as long in the first \
               minutes after boot",
        place: |graces| &mut graces.offer,
    },
    GraceOption {
        name: "smaller-offer-grace",
        help: "Until it is believed that Kubernetes offers less than before",
        place: |graces| &mut graces.smaller_offer,
    },
    GraceOption {
        name: "fault-grace",
        help: "Until a failed device turns the condition Problem",
        place: |graces| &mut graces.fault,
    },
    GraceOption {
        name: "fault-end-grace",
        help: "Until the condition Problem turns back after a fault has ended",
        place: |graces| &mut graces.fault_end,
    },
    GraceOption {
        name: "learning-time",
        help: "How long a device must have been there until it is expected to stay",
        place: |graces| &mut graces.learning,
    },
];

/// The shortest time without an observation that is taken for a suspension of the machine.
const SHORTEST_GAP: Duration = Duration::from_secs(60);

/// For how long something is believed.
#[derive(Clone, Debug, Default)]
pub struct GraceArgs {
    graces: Graces,
}

impl GraceArgs {
    /// The graces of an agent that discovers and samples at these intervals.
    pub(super) fn graces(&self, discovery_interval: Duration, sample_interval: Duration) -> Graces {
        // The loop discovers between two samples, so that it observes at the longer interval. Libraries that hang delay it by seconds.
        let observation_interval = discovery_interval.max(sample_interval);
        Graces { gap: (observation_interval * 3).max(SHORTEST_GAP), ..self.graces }
    }
}

impl Args for GraceArgs {
    fn augment_args(command: Command) -> Command {
        let defaults = Graces::default();
        OPTIONS.iter().fold(command, |command, option| {
            let default = *(option.place)(&mut { defaults });
            let argument = Arg::new(option.name)
                .long(option.name)
                .help(format!("{} [default: {}]", option.help, default.as_secs()))
                .help_heading("Graces")
                .value_name("SECONDS")
                .value_parser(SecondsRange::GRACE.parser());
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        GraceArgs::augment_args(command)
    }
}

impl FromArgMatches for GraceArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<GraceArgs, clap::Error> {
        let mut args = GraceArgs::default();
        for option in &OPTIONS {
            if let Some(grace) = matches.get_one::<Duration>(option.name) {
                *(option.place)(&mut args.graces) = *grace;
            }
        }
        let after_boot = args.graces.offer * 5 / 2;
        args.graces.offer_after_boot = after_boot;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = GraceArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_change_the_graces_that_they_name() {
        let command = GraceArgs::augment_args(Command::new("test"));
        let parsed = |arguments: &[&str]| {
            let matches = command.clone().try_get_matches_from(arguments).expect("they are valid");
            GraceArgs::from_arg_matches(&matches).expect("they are valid").graces
        };
        assert_eq!(parsed(&["test"]), Graces::default());
        let graces = parsed(&["test", "--removal-grace", "1", "--offer-grace", "2"]);
        assert_eq!((graces.removal, graces.offer), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!(graces.offer_after_boot, Duration::from_secs(5));
        assert_eq!(graces.library, Graces::default().library);
    }

    #[test]
    fn a_slow_observation_is_no_suspension_however_short_the_interval_is() {
        let gap = |discovery, sample| {
            GraceArgs::default()
                .graces(Duration::from_secs(discovery), Duration::from_secs(sample))
                .gap
                .as_secs()
        };
        assert_eq!([gap(1, 1), gap(60, 5), gap(60, 300)], [60, 180, 900]);
    }
}
