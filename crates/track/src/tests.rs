//! Sequences of observations with a played clock. Each is a situation that admins meet.

mod devices;
mod failed_devices;
mod library;
mod maintenance;
mod node;
mod player;
