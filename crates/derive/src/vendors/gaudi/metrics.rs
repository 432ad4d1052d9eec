//! The families of Habana's metric exporter (HabanaAI/gaudi-metric-exporter): names and meanings.

use afd_model::{
    Clock, Direction, Engine, ErrorDetail, ErrorKind, GaudiQuantity, LinkEnd, LinkValue, Quantity, Rows,
    Sensor, TemperatureLimit, Which,
};

use crate::compat::metrics::{
    CompatFamily, ExporterUnit, HolderLabel, LeftOutFamilies, MetricSet, SeriesOrder, SharedUnits, UnitLabel,
    UnitSeries, allocatable_units, compat_families, plain,
};

const TO_MEGAHERTZ: f64 = 1e-6;
const TO_MILLI: f64 = 1e3;
const TO_KILO: f64 = 1e-3;
const TO_GIGA: f64 = 1e-9;
const TO_PERCENT: f64 = 100.0;

pub(super) const METRICS: MetricSet = MetricSet {
    exporter: "Habana's metric exporter",
    page: "gaudi",
    always_served: false,
    notes: "All families are gauges, as in the exporter.",
    units: allocatable_units,
    unit_labels: &[
        UnitLabel { name: "Serial", value: |unit| Some(serial(unit)) },
        UnitLabel { name: "UUID", value: |unit| Some(unit.device.uuid.value().cloned().unwrap_or_default()) },
        UnitLabel { name: "device", value: |unit| Some(serial(unit)) },
        UnitLabel { name: "id", value: |unit| Some(unit.number.to_string()) },
        UnitLabel {
            name: "fit",
            value: |unit| Some(unit.device.gaudi()?.fit_version.value().cloned().unwrap_or_default()),
        },
        UnitLabel {
            name: "spi",
            value: |unit| Some(unit.device.gaudi()?.spi_version.value().cloned().unwrap_or_default()),
        },
        UnitLabel {
            name: "driver",
            value: |unit| Some(unit.device.driver_version.value().cloned().unwrap_or_default()),
        },
    ],
    holder_labels: &[
        HolderLabel { name: "pod_namespace", value: |allocation| &allocation.namespace },
        HolderLabel { name: "pod_name", value: |allocation| &allocation.pod },
    ],
    tables: &[VALUES, COMMON],
    sharing: SharedUnits::SeriesEach,
    order: SeriesOrder::ByLabelValues,
    left_out: &[
        LeftOutFamilies {
            names: &[
                "habanalabs_clock_ic_max_mhz",
                "habanalabs_clock_mme_max_mhz",
                "habanalabs_clock_tpc_max_mhz",
            ],
            reason: "The exporter declares it and never sets it.",
        },
        LeftOutFamilies {
            names: &["habanalabs_kube_info"],
            reason: "The pod that holds a device is in the labels of every series; the kubelet's PodResources do not have the \
                     address of a pod.",
        },
        LeftOutFamilies {
            names: &["accelerator_memory_clock_hertz"],
            reason: "The exporter publishes the constant 18000000; nothing reports the clock of the memory.",
        },
    ],
    differences: &[
        "A value that was not read is an absent series. Habana's exporter publishes 0 for it.",
        "`accelerator_power_usage_watts` is in watts; the exporter publishes milliwatts.",
        "`accelerator_sm_clock_hertz` is in hertz; the exporter publishes megahertz.",
        "`habanalabs_energy` is in millijoules, as in the exporter, whose name does not say so.",
        "`habanalabs_pending_rows_with_*` are the rows that were replaced, by cause, as in the exporter, whose name says \
         otherwise.",
        "`habanalabs_pcie_*` and `habanalabs_nic_port_status` are sampled once a minute: a measurement of PCIe blocks the library \
         for 10 ms per direction and device.",
        "`id` numbers the devices in the order of their PCI addresses.",
        "`accelerator_memory_total_bytes` and the other families without `habanalabs` in the name exist on this page alone.",
    ],
};

fn serial(unit: &ExporterUnit<'_>) -> String {
    unit.device.serial.value().cloned().unwrap_or_default()
}

fn scaled(unit: &ExporterUnit<'_>, quantity: Quantity, factor: f64) -> UnitSeries {
    plain(unit.value(quantity, factor))
}

fn own(unit: &ExporterUnit<'_>, quantity: GaudiQuantity, factor: f64) -> UnitSeries {
    scaled(unit, quantity.into(), factor)
}

fn threshold(unit: &ExporterUnit<'_>, sensor: Sensor, limit: TemperatureLimit) -> UnitSeries {
    scaled(unit, Quantity::TemperatureLimitCelsius(sensor, limit), 1.0)
}

fn pcie(unit: &ExporterUnit<'_>, direction: Direction) -> UnitSeries {
    scaled(unit, Quantity::PcieBytesPerSecond(direction), TO_KILO)
}

fn free_memory(unit: &ExporterUnit<'_>) -> Option<f64> {
    Some(unit.memory_bytes()? - unit.value(Quantity::MemoryUsedBytes, 1.0)?)
}

fn ports(unit: &ExporterUnit<'_>) -> UnitSeries {
    unit.filter_readings(|quantity, value| match *quantity {
        Quantity::Link(port, LinkValue::Up) => {
            let kind = if port.end == LinkEnd::External { "external" } else { "internal" };
            Some((vec![port.number.to_string(), kind.to_owned()], value))
        }
        _ => None,
    })
}

fn utilization(unit: &ExporterUnit<'_>) -> UnitSeries {
    scaled(unit, Quantity::Utilization(Engine::Compute), TO_PERCENT)
}

const VALUES: &[CompatFamily] = compat_families! {
    Gauge "habanalabs_clock_soc_mhz", [], "Clock of the SOC, MHz.",
        |unit| scaled(unit, Quantity::ClockHertz(Clock::Soc), TO_MEGAHERTZ);
    Gauge "habanalabs_clock_soc_max_mhz", [], "Maximum clock of the SOC, MHz.",
        |unit| scaled(unit, Quantity::ClockMaxHertz(Clock::Soc), TO_MEGAHERTZ);
    Gauge "habanalabs_device_config", [], "The device with its labels; always 1.", |_| plain(Some(1.0));
    Gauge "habanalabs_ecc_feature_mode", [], "1 if ECC is enabled.",
        |unit| plain(unit.device.gaudi().and_then(|facts| facts.ecc_enabled.value()).map(|on| f64::from(u8::from(*on))));
    Gauge "habanalabs_energy", [], "Energy since the driver was loaded, mJ.",
        |unit| scaled(unit, Quantity::EnergyJoules, TO_MILLI);
    Gauge "habanalabs_memory_free_bytes", [], "Free memory.", |unit| plain(free_memory(unit));
    Gauge "habanalabs_memory_used_bytes", [], "Memory in use.",
        |unit| scaled(unit, Quantity::MemoryUsedBytes, 1.0);
    Gauge "habanalabs_memory_total_bytes", [], "Memory.", |unit| plain(unit.memory_bytes());
    Gauge "habanalabs_pci_link_speed", [], "Speed of the PCIe link, GT/s.",
        |unit| scaled(unit, Quantity::PcieTransfersPerSecond(Which::Current), TO_GIGA);
    Gauge "habanalabs_pci_link_width", [], "Lanes of the PCIe link.",
        |unit| scaled(unit, Quantity::PcieWidth(Which::Current), 1.0);
    Gauge "habanalabs_pcie_receive_throughput", [], "Data received over PCIe, KB/s.",
        |unit| pcie(unit, Direction::Receive);
    Gauge "habanalabs_pcie_transmit_throughput", [], "Data sent over PCIe, KB/s.",
        |unit| pcie(unit, Direction::Transmit);
    Gauge "habanalabs_pcie_rx", [], "Data received over PCIe, KB/s.", |unit| pcie(unit, Direction::Receive);
    Gauge "habanalabs_pcie_tx", [], "Data sent over PCIe, KB/s.", |unit| pcie(unit, Direction::Transmit);
    Gauge "habanalabs_pcie_replay_count", [], "PCIe replays.",
        |unit| scaled(unit, Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), 1.0);
    Gauge "habanalabs_pending_rows_state", [], "1 while a row waits for its replacement.",
        |unit| scaled(unit, Quantity::RowsRemapped(Rows::Pending), 1.0);
    Gauge "habanalabs_pending_rows_with_single_bit_ecc_errors", [], "Rows replaced for several single-bit errors.",
        |unit| scaled(unit, Quantity::RowsRemapped(Rows::Correctable), 1.0);
    Gauge "habanalabs_pending_rows_with_double_bit_ecc_errors", [], "Rows replaced for a double-bit error.",
        |unit| scaled(unit, Quantity::RowsRemapped(Rows::Uncorrectable), 1.0);
    Gauge "habanalabs_power_mW", [], "Power, mW.", |unit| scaled(unit, Quantity::PowerWatts, TO_MILLI);
    Gauge "habanalabs_power_default_limit_mW", [], "Default power limit, mW.",
        |unit| own(unit, GaudiQuantity::DefaultPowerLimitWatts, TO_MILLI);
    Gauge "habanalabs_temperature_onboard", [], "Temperature of the board, degrees Celsius.",
        |unit| scaled(unit, Quantity::TemperatureCelsius(Sensor::Board), 1.0);
    Gauge "habanalabs_temperature_onchip", [], "Temperature of the die, degrees Celsius.",
        |unit| scaled(unit, Quantity::TemperatureCelsius(Sensor::Device), 1.0);
    Gauge "habanalabs_temperature_threshold_shutdown", [], "Temperature at which the device is switched off.",
        |unit| threshold(unit, Sensor::Device, TemperatureLimit::Shutdown);
    Gauge "habanalabs_temperature_threshold_slowdown", [], "Temperature at which clocks are lowered.",
        |unit| threshold(unit, Sensor::Device, TemperatureLimit::Slowdown);
    Gauge "habanalabs_temperature_threshold_memory", [], "Highest temperature of the memory.",
        |unit| threshold(unit, Sensor::Memory, TemperatureLimit::Critical);
    Gauge "habanalabs_temperature_threshold_gpu", [], "Highest temperature of the die.",
        |unit| threshold(unit, Sensor::Device, TemperatureLimit::Critical);
    Gauge "habanalabs_utilization", [], "Share of the last second in which the device was busy, percent.",
        utilization;
    Gauge "habanalabs_nic_port_status", ["port", "port_type"], "1 if the link of a port is up.", ports;
};

/// Names that the exporter shares with other vendors' exporters.
const COMMON: &[CompatFamily] = compat_families! {
    Gauge "accelerator_gpu_utilization", [], "Share of the last second in which the device was busy, percent.",
        utilization;
    Gauge "accelerator_memory_total_bytes", [], "Memory.", |unit| plain(unit.memory_bytes());
    Gauge "accelerator_memory_used_bytes", [], "Memory in use.",
        |unit| scaled(unit, Quantity::MemoryUsedBytes, 1.0);
    Gauge "accelerator_power_usage_watts", [], "Power, W.", |unit| scaled(unit, Quantity::PowerWatts, 1.0);
    Gauge "accelerator_sm_clock_hertz", [], "Clock of the SOC, Hz.",
        |unit| scaled(unit, Quantity::ClockHertz(Clock::Soc), 1.0);
    Gauge "accelerator_temperature_celcius", [], "Temperature of the die, degrees Celsius.",
        |unit| scaled(unit, Quantity::TemperatureCelsius(Sensor::Device), 1.0);
};
