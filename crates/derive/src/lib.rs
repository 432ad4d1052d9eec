//! Turns an inventory into what is published: node labels, metric families, and which llm-d paths a node can serve.
//!
//! Pure functions of their arguments: no clock, no files, no errors. An unknown fact gives no label and no series. Every label
//! and every family is a row of one table ([`labels::LABELS`], [`families::Family`]), from which the documentation is generated
//! as well. What only a vendor decides is in that vendor's record ([`vendors`]).

pub mod compat;
pub mod condition;
pub mod decided;
pub mod families;
pub mod labels;
pub mod markdown;
pub mod offer;
pub mod paths;
pub mod rdma;
pub mod report;
pub mod series;
pub mod value;
pub mod vendors;
