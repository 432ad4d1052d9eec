//! Families of AMD's exporter that are not published, and why.

use crate::compat::metrics::LeftOutFamilies;

pub(super) const FAMILIES: &[LeftOutFamilies] = &[
    LeftOutFamilies {
        names: &[
            "gpu_mma_activity",
            "gpu_vcn_activity",
            "gpu_jpeg_activity",
            "gpu_voltage",
            "gpu_gfx_voltage",
            "gpu_memory_voltage",
        ],
        reason: "AMD has deprecated it and supports it on no platform.",
    },
    LeftOutFamilies {
        names: &["pcie_rx", "pcie_tx"],
        reason: "AMD has announced it and does not emit it yet.",
    },
    LeftOutFamilies {
        names: &["pcie_bandwidth", "pcie_bidirectional_bandwidth"],
        reason: "The kernel's table calls the same field GB/s in one revision and Mb/s in the next, and does not say which \
                 the part means; `pcie_bw` blocks for a second on each read and is never read.",
    },
    LeftOutFamilies {
        names: &[
            "gpu_xgmi_nbr_0_nop_tx",
            "gpu_xgmi_nbr_0_req_tx",
            "gpu_xgmi_nbr_0_resp_tx",
            "gpu_xgmi_nbr_0_beats_tx",
            "gpu_xgmi_nbr_1_nop_tx",
            "gpu_xgmi_nbr_1_req_tx",
            "gpu_xgmi_nbr_1_resp_tx",
            "gpu_xgmi_nbr_1_beats_tx",
            "gpu_xgmi_nbr_0_tx_thrput",
            "gpu_xgmi_nbr_1_tx_thrput",
            "gpu_xgmi_nbr_2_tx_thrput",
            "gpu_xgmi_nbr_3_tx_thrput",
            "gpu_xgmi_nbr_4_tx_thrput",
            "gpu_xgmi_nbr_5_tx_thrput",
        ],
        reason: "A performance counter of the data fabric, which AMD's library programs as root; `gpu_xgmi_link_rx` and `_tx` \
                 count what each link carried.",
    },
    LeftOutFamilies {
        names: &[
            "gpu_violation_gfx_clock_below_host_limit_power_percentage",
            "gpu_violation_gfx_clock_below_host_limit_thermal_percentage",
            "gpu_violation_low_utilization_percentage",
            "gpu_violation_gfx_clock_below_host_limit_total_percentage",
        ],
        reason: "It follows from its accumulated counter: the rate of that divided by the rate of \
                 `gpu_violation_current_accumulated_counter`.",
    },
    LeftOutFamilies {
        names: &["gpu_afid_errors"],
        reason: "Which field failed is in the sections of an error record (CPER), which AMD's library decodes by its own \
                 tables. Where the agent may read the records (debugfs, root only) `accelerator_device_health_reason` reports a \
                 fatal one; the error counters cover the rest.",
    },
    LeftOutFamilies {
        names: &[
            "gpu_prof_grbm_gui_active",
            "gpu_prof_sq_waves",
            "gpu_prof_grbm_count",
            "gpu_prof_gui_util_percent",
            "gpu_prof_fetch_size",
            "gpu_prof_write_size",
            "gpu_prof_total_16_ops",
            "gpu_prof_total_32_ops",
            "gpu_prof_total_64_ops",
            "gpu_prof_occupancy_percent",
            "gpu_prof_tensor_active_percent",
            "gpu_prof_valu_pipe_issue_util",
            "gpu_prof_sm_active",
            "gpu_prof_occupancy_elapsed",
            "gpu_prof_occupancy_per_active_cu",
            "gpu_prof_occupancy_per_cu",
            "gpu_prof_simd_utilization",
        ],
        reason: "A counter of the profiler, which takes the GPU's counters from any other profiler and is off by default in \
                 AMD's exporter as well.",
    },
    LeftOutFamilies {
        names: &[
            "gpu_prof_cpc_cpc_stat_busy",
            "gpu_prof_cpc_cpc_stat_idle",
            "gpu_prof_cpc_cpc_stat_stall",
            "gpu_prof_cpc_cpc_tciu_busy",
            "gpu_prof_cpc_cpc_tciu_idle",
            "gpu_prof_cpc_cpc_utcl2iu_busy",
            "gpu_prof_cpc_cpc_utcl2iu_idle",
            "gpu_prof_cpc_cpc_utcl2iu_stall",
            "gpu_prof_cpc_me1_busy_for_packet_decode",
            "gpu_prof_cpc_me1_dc0_spi_busy",
            "gpu_prof_cpc_utcl1_stall_on_translation",
            "gpu_prof_cpc_always_count",
            "gpu_prof_cpc_adc_valid_chunk_not_avail",
            "gpu_prof_cpc_adc_dispatch_alloc_done",
            "gpu_prof_cpc_adc_valid_chunk_end",
            "gpu_prof_cpc_sync_fifo_full_level",
            "gpu_prof_cpc_sync_fifo_full",
            "gpu_prof_cpc_gd_busy",
            "gpu_prof_cpc_tg_send",
            "gpu_prof_cpc_walk_next_chunk",
            "gpu_prof_cpc_stalled_by_se0_spi",
            "gpu_prof_cpc_stalled_by_se1_spi",
            "gpu_prof_cpc_stalled_by_se2_spi",
            "gpu_prof_cpc_stalled_by_se3_spi",
            "gpu_prof_cpc_lte_all",
            "gpu_prof_cpc_sync_wrreq_fifo_busy",
            "gpu_prof_cpc_cane_busy",
            "gpu_prof_cpc_cane_stall",
            "gpu_prof_cpf_cmp_utcl1_stall_on_translation",
            "gpu_prof_cpf_cpf_stat_busy",
            "gpu_prof_cpf_cpf_stat_idle",
            "gpu_prof_cpf_cpf_stat_stall",
            "gpu_prof_cpf_cpf_tciu_busy",
            "gpu_prof_cpf_cpf_tciu_idle",
            "gpu_prof_cpf_cpf_tciu_stall",
        ],
        reason: "The same, for the command processors.",
    },
];
