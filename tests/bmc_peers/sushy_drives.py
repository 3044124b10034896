"""Power, boot, BIOS and virtual media of the laboratory's BMC, through sushy. Arguments: URL, user, password."""
import sys
import time
import warnings

import sushy
from sushy import auth

warnings.filterwarnings("ignore")
url, user, password = sys.argv[1:4]


def until(what, wanted):
    for _ in range(100):
        if what() == wanted:
            return
        time.sleep(0.1)
    raise SystemExit(f"{what()} and not {wanted}")


def state():
    system.refresh(force=True)
    return system.power_state


for how in (auth.SessionAuth(user, password), auth.BasicAuth(user, password)):
    root = sushy.Sushy(url, auth=how, verify=False)
    system = root.get_system("/redfish/v1/Systems/1")
    system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    system.refresh(force=True)
    assert system.boot.target == sushy.BootSource.PXE, system.boot
    system.reset_system(sushy.ResetType.ON)
    until(state, sushy.PowerState.ON)
    system.refresh(force=True)
    assert system.boot.enabled == sushy.BootSourceOverrideEnabled.DISABLED, "once means once"
    system.bios.set_attribute("SriovGlobalEnable", "Enabled")
    system.reset_system(sushy.ResetType.FORCE_OFF)
    until(state, sushy.PowerState.OFF)
    manager = root.get_manager("/redfish/v1/Managers/1")
    medium = manager.virtual_media.get_members()[0]
    medium.insert_media("http://192.0.2.1/a.iso")
    medium.refresh(force=True)
    assert medium.inserted and medium.image == "http://192.0.2.1/a.iso"
    medium.eject_media()
    medium.refresh(force=True)
    assert not medium.inserted
    assert len(system.storage.get_members()) == 1 and system.storage.get_members()[0].drives_sizes_bytes
print("sushy drove it")
