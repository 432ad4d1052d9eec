//! Sequences of observations with a played clock. Each is a situation that admins meet.

mod devices;
mod library;
mod failed_devices;
mod maintenance;
mod node;
mod player;
