//! Boards that share a device id with others, by the device id of their subsystem.
//!
//! Source: the table of supported GPUs in the README of NVIDIA's open kernel modules (595.45.04); DGX Display, pci.ids.

use super::{NvidiaProductRow, row};

/// A board: the subsystem device ids that it has, and its row.
pub(super) type BoardRow = (&'static [u16], NvidiaProductRow);

pub(super) const ROWS: &[BoardRow] = &[
    (&[0x12db, 0x8a80], row(0x1fb0, "NVIDIA T1000", "T1000", "turing", "7.5")),
    (&[0x1485], row(0x1fb0, "NVIDIA DGX Display", "DGX-Display", "turing", "7.5")),
    (&[0x1489, 0x8a80], row(0x1fb2, "NVIDIA T400", "T400", "turing", "7.5")),
    (&[0x1450], row(0x20b0, "NVIDIA A100-PG509-200", "A100", "ampere", "8.0")),
    (&[0x1625], row(0x20b2, "NVIDIA PG509-210", "PG509", "ampere", "8.0")),
    (&[0x179a], row(0x20f5, "NVIDIA A800 80GB PCIe LC", "A800-80GB", "ampere", "8.0")),
    (&[0x16eb, 0x1805], row(0x2342, "NVIDIA GH200 120GB", "GH200", "hopper", "9.0")),
    (&[0x14a9], row(0x25b6, "NVIDIA A16", "A16", "ampere", "8.6")),
    (&[0x157e], row(0x25b6, "NVIDIA A2", "A2", "ampere", "8.6")),
    (&[0x227a], row(0x2bb3, "NVIDIA RTX PRO 5000 72GB Blackwell", "RTX-PRO-5000-72GB", "blackwell", "12.0")),
];
