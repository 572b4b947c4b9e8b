"""What Ironic does to a server, with its own client (sushy): inspect, set a boot device, power up and down."""

import logging
import sys
import time

import sushy
from sushy import exceptions

PASSED = 0


def check(what, holds):
    global PASSED
    if not holds:
        raise SystemExit(f"FAILED: {what}")
    PASSED += 1


def until(what, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            check(what, True)
            return
        time.sleep(0.1)
    raise SystemExit(f"FAILED: never: {what}")


def power(system):
    system.refresh(force=True)
    return system.power_state


def inspect(system):
    check("identity", system.serial_number and system.uuid and system.manufacturer)
    check("memory", system.memory_summary.size_gib > 0)
    check("processors", system.processors.summary.count > 0)
    types = {p.processor_type for p in system.processors.get_members()}
    check("processor types", sushy.ProcessorType.CPU in types)
    macs = system.ethernet_interfaces.summary
    check("MAC addresses", macs and all(state == sushy.STATE_ENABLED for state in macs.values()))
    storage = system.storage
    check("drive sizes", storage.drives_sizes_bytes and min(storage.drives_sizes_bytes) > 0)
    check("volume sizes", storage.volumes_sizes_bytes == storage.drives_sizes_bytes)
    check("storage of each", all(s.drives for s in storage.get_members()))
    check("bios", system.bios.attributes["BootMode"] == "Uefi")
    check("secure boot", system.secure_boot.enabled in (True, False))
    chassis = system.chassis[0]
    check("chassis", chassis.chassis_type == sushy.ChassisType.RACK_MOUNT)
    manager = system.managers[0]
    check("manager", manager.firmware_version and manager.manager_type == sushy.ManagerType.BMC)
    check("manager resets", sushy.ResetType.GRACEFUL_RESTART in manager.get_allowed_reset_manager_values())


def boot(system):
    allowed = system.get_allowed_system_boot_source_values()
    check("PXE offered", sushy.BootSource.PXE in allowed)
    system.set_system_boot_options(
        target=sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE, mode=sushy.BootSourceOverrideMode.UEFI)
    system.refresh(force=True)
    check("override set", system.boot.target == sushy.BootSource.PXE)
    check("override once", system.boot.enabled == sushy.BootSourceOverrideEnabled.ONCE)
    try:
        system.reset_system(sushy.ResetType.SUSPEND)
        check("a reset type that is not offered is refused", False)
    except exceptions.InvalidParameterValueError:
        check("a reset type that is not offered is refused", True)
    if power(system) != sushy.PowerState.OFF:
        system.reset_system(sushy.ResetType.FORCE_OFF)
        until("off", lambda: power(system) == sushy.PowerState.OFF)
    system.reset_system(sushy.ResetType.ON)
    until("on", lambda: power(system) == sushy.PowerState.ON)
    until("override consumed by POST", lambda: power(system) and
          system.boot.enabled == sushy.BootSourceOverrideEnabled.DISABLED)
    until("OS runs", lambda: power(system) and system.boot_progress.last_state == sushy.BootProgressStates.OS_RUNNING)
    system.reset_system(sushy.ResetType.GRACEFUL_SHUTDOWN)
    until("shut down", lambda: power(system) == sushy.PowerState.OFF)
    try:
        system.reset_system(sushy.ResetType.GRACEFUL_RESTART)
        check("restart of a machine that is off is refused", False)
    except exceptions.HTTPError as error:
        check("restart of a machine that is off is refused", error.status_code == 409)
        check("the refusal says why", "required to be powered on" in str(error))
    system.bios.set_attribute("NetworkBoot", "Disabled")
    system.bios.refresh(force=True)
    check("pending", system.bios.pending_attributes["NetworkBoot"] == "Disabled")
    wanted = not system.secure_boot.enabled
    system.secure_boot.set_enabled(wanted)
    system.secure_boot.refresh(force=True)
    check("secure boot set", system.secure_boot.enabled is wanted)


def main(url, user, password):
    logging.disable(logging.WARNING)
    for auth in (sushy.auth.SessionAuth(user, password), sushy.auth.BasicAuth(user, password)):
        root = sushy.Sushy(url, auth=auth, verify=False)
        check("registries", root.registries)
        system = root.get_system("/redfish/v1/Systems/1")
        check("the only system", root.get_system().path == system.path)
        inspect(system)
        boot(system)
    try:
        sushy.Sushy(url, auth=sushy.auth.SessionAuth(user, "wrong"), verify=False)
        check("a wrong password is refused", False)
    except exceptions.AccessError:
        check("a wrong password is refused", True)
    service = root.get_update_service()
    check("firmware inventory", service.firmware_inventory.get_members())
    check("tasks", root.get_task_service().tasks.get_members() == [])
    print(f"{PASSED} checks passed")


main(*sys.argv[1:])
