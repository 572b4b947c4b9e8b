//! Processors (CPUs and GPUs) and memory modules.

use serde::Serialize;

use super::{CHASSIS_URI, SYSTEM_URI, schemas};
use crate::hardware::{Architecture, Dimm, Gpu, Processor};
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::route::{COMPONENTS, Route, Scene};

const PROCESSORS: &str = "/redfish/v1/Systems/1/Processors";
const MEMORY: &str = "/redfish/v1/Systems/1/Memory";

pub(super) const ROUTES: &[Route] = &[
    Route::get(PROCESSORS, COMPONENTS, processors),
    Route::get("/redfish/v1/Systems/1/Processors/{}", COMPONENTS, processor),
    Route::get(MEMORY, COMPONENTS, memory),
    Route::get("/redfish/v1/Systems/1/Memory/{}", COMPONENTS, dimm),
];

fn processors(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let hardware = &scene.bmc.hardware;
    let cpus = hardware.processors.iter().map(|processor| processor.id.as_str());
    let gpus = hardware.gpus.iter().map(|gpu| gpu.id.as_str());
    Some(Collection::of(
        schemas::PROCESSORS,
        PROCESSORS,
        "Processors",
        cpus.chain(gpus),
    ))
}

/// CPU and GPU alike; what one of them has not is left out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessorResource<'a> {
    id: &'a str,
    name: &'static str,
    processor_type: &'static str,
    socket: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    processor_architecture: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction_set: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_cores: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_threads: Option<u32>,
    #[serde(rename = "MaxSpeedMHz", skip_serializing_if = "Option::is_none")]
    max_speed_mhz: Option<u32>,
    #[serde(rename = "TDPWatts", skip_serializing_if = "Option::is_none")]
    tdp_watts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_summary: Option<ProcessorMemory>,
    status: Status,
    links: ProcessorLinks,
}

#[derive(Serialize)]
struct ProcessorMemory {
    #[serde(rename = "TotalMemorySizeMiB")]
    total_mib: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessorLinks {
    chassis: Link,
}

fn cpu(cpu: &Processor) -> ProcessorResource<'_> {
    let (architecture, instructions) = match cpu.architecture {
        Architecture::X86_64 => ("x86", "x86-64"),
        Architecture::Aarch64 => ("ARM", "ARM-A64"),
    };
    ProcessorResource {
        id: &cpu.id,
        name: "Processor",
        processor_type: "CPU",
        socket: &cpu.id,
        manufacturer: &cpu.manufacturer,
        model: &cpu.model,
        processor_architecture: Some(architecture),
        instruction_set: Some(instructions),
        total_cores: Some(cpu.cores),
        total_threads: Some(cpu.threads),
        max_speed_mhz: Some(cpu.max_mhz),
        tdp_watts: cpu.tdp_watts,
        serial_number: None,
        part_number: None,
        firmware_version: None,
        memory_summary: None,
        status: ENABLED,
        links: ProcessorLinks {
            chassis: link(CHASSIS_URI),
        },
    }
}

fn gpu(gpu: &Gpu) -> ProcessorResource<'_> {
    ProcessorResource {
        id: &gpu.id,
        name: "GPU",
        processor_type: "GPU",
        socket: &gpu.id,
        manufacturer: &gpu.manufacturer,
        model: &gpu.model,
        processor_architecture: None,
        instruction_set: None,
        total_cores: None,
        total_threads: None,
        max_speed_mhz: None,
        tdp_watts: None,
        serial_number: Some(&gpu.serial),
        part_number: Some(&gpu.part_number),
        firmware_version: Some(&gpu.firmware),
        memory_summary: Some(ProcessorMemory {
            total_mib: gpu.memory_mib,
        }),
        status: ENABLED,
        links: ProcessorLinks {
            chassis: link(CHASSIS_URI),
        },
    }
}

fn processor(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let hardware = &scene.bmc.hardware;
    let cpus = hardware.processors.iter().map(cpu);
    let mut all = cpus.chain(hardware.gpus.iter().map(gpu));
    let resource = all.find(|resource| resource.id == wanted)?;
    Some(Document::new(
        schemas::PROCESSOR,
        format!("{PROCESSORS}/{wanted}"),
        &resource,
    ))
}

fn memory(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = scene.bmc.hardware.memory.iter().map(|dimm| dimm.id.as_str());
    Some(Collection::of(
        schemas::MEMORY_COLLECTION,
        MEMORY,
        "Memory Modules",
        ids,
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemoryResource<'a> {
    id: &'a str,
    name: &'static str,
    memory_type: &'static str,
    memory_device_type: &'a str,
    #[serde(rename = "CapacityMiB")]
    capacity_mib: u64,
    error_correction: &'static str,
    /// Lower-case `hz` in the schema.
    operating_speed_mhz: u32,
    manufacturer: &'a str,
    part_number: &'a str,
    serial_number: &'a str,
    status: Status,
    links: MemoryLinks,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemoryLinks {
    chassis: Link,
    processors: Vec<Link>,
}

fn dimm(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let hardware = &scene.bmc.hardware;
    let (index, dimm): (usize, &Dimm) = hardware
        .memory
        .iter()
        .enumerate()
        .find(|(_, dimm)| dimm.id == *wanted)?;
    // Modules are spread over the sockets in equal runs.
    let per_socket = hardware
        .memory
        .len()
        .div_ceil(hardware.processors.len().max(1))
        .max(1);
    let socket = hardware.processors.get(index / per_socket);
    let resource = MemoryResource {
        id: &dimm.id,
        name: "Memory Module",
        memory_type: "DRAM",
        memory_device_type: &dimm.device_type,
        capacity_mib: dimm.capacity_mib,
        error_correction: if dimm.ecc { "MultiBitECC" } else { "NoECC" },
        operating_speed_mhz: dimm.speed_mhz,
        manufacturer: &dimm.manufacturer,
        part_number: &dimm.part_number,
        serial_number: &dimm.serial,
        status: ENABLED,
        links: MemoryLinks {
            chassis: link(CHASSIS_URI),
            processors: socket
                .map(|cpu| link(format!("{SYSTEM_URI}/Processors/{}", cpu.id)))
                .into_iter()
                .collect(),
        },
    };
    Some(Document::new(
        schemas::MEMORY,
        format!("{MEMORY}/{wanted}"),
        &resource,
    ))
}
