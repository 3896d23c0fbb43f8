//! A test with three virtual machines with Alpine on the lab's switch: set up from their disk,
//! run over their serial consoles, and graded. Software emulation makes the test slow, so that
//! it runs only on request: `cargo test -p gns3 --test machines -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use evidence::judge::Item;
use gns3::run::ConsoleRun;
use gns3::topology::{Kind, Topology, alpines};
use grade::grade;
use libtest_mimic::{Arguments, Trial};
use stage::gateway::Gateway;
use stage::namespace::{Namespace, become_lab_root};
use stage::network::Network;
use stage::node::Node;
use stage::programs::{Programs, STYLES};
use stage::samples::samples;
use stage::target::NodeTarget;

const FIRST_PORT: u16 = 2300;

fn main() {
    let arguments = Arguments::from_args();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let parts = ["alpine.image", "alpine/boot/vmlinuz-virt", "gns3/bin/qemu-system-x86_64"];
    let mut missing = parts
        .into_iter()
        .find(|part| !target.join(part).exists())
        .map(|part| format!("no target/{part}: see .ci/alpine-rootfs and .ci/gns3-servers"));
    let mut programs = None;
    let is_asked_for = arguments.ignored || arguments.include_ignored;
    if is_asked_for && !arguments.list && missing.is_none() {
        programs = Some(Programs::build_for_nodes(&NodeTarget::native().unwrap()).unwrap());
        // A user namespace can be entered only before any thread is started.
        missing = become_lab_root().err().map(|error| format!("no network namespaces: {error}"));
    }
    if let Some(reason) = &missing {
        println!("virtual machines are not tested: {reason}");
    }
    let test = move || {
        run_and_grade(&target, &programs.unwrap());
        Ok(())
    };
    let trial = Trial::test("virtual_machines_are_set_up_run_and_graded", test);
    let trials = if missing.is_some() { Vec::new() } else { vec![trial.with_ignored_flag(true)] };
    libtest_mimic::run(&arguments, trials).exit();
}

/// A virtual machine; dropping the value ends the machine.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn call(namespace: &Namespace, words: &str) {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = namespace.enter(|| command.args(words).output()).unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Makes the base image: Alpine with a login on the serial line, as images for GNS3 have it.
fn base_image(target: &Path, home: &Path) -> PathBuf {
    let image = home.join("base.raw");
    let mut copy = Command::new("cp");
    copy.arg("--sparse=always").arg(target.join("alpine.image")).arg(&image);
    assert!(copy.status().unwrap().success());
    let etc = target.join("alpine/etc");
    let inittab = fs::read_to_string(etc.join("inittab")).unwrap();
    let shadow = fs::read_to_string(etc.join("shadow")).unwrap();
    let lines = "::wait:/bin/mount -o remount,rw /\n\
                 ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n";
    for (name, text) in [
        ("inittab", format!("{inittab}\n{lines}")),
        ("shadow", shadow.replace("root:*:", "root::")),
    ] {
        let path = home.join(name);
        fs::write(&path, text).unwrap();
        for request in [format!("rm /etc/{name}"), format!("write {} /etc/{name}", path.display())]
        {
            let mut command = Command::new("debugfs");
            let output = command.arg("-w").arg("-R").arg(request).arg(&image).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
    image
}

fn boot(
    switch: &Namespace,
    target: &Path,
    home: &Path,
    (node, port): (Node, u16),
    medium: &[u8],
) -> Machine {
    let dir = home.join(node.name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("siar.img"), medium).unwrap();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(home.join("base.raw"))
        .arg(dir.join("disk.qcow2"))
        .status();
    assert!(made.unwrap().success());
    let tap = format!("vm{port}");
    call(switch, &format!("ip link set {} down", node.name));
    call(switch, &format!("ip tuntap add dev {tap} mode tap"));
    call(switch, &format!("ip link set {tap} master switch up"));
    let mac = format!("52:54:00:00:00:{:02x}", node.address.octets()[3]);
    let mut command =
        Command::new(target.canonicalize().unwrap().join("gns3/bin/qemu-system-x86_64"));
    command
        .current_dir(&dir)
        .args(["-m", "256", "-display", "none", "-monitor", "none", "-cdrom", "siar.img"])
        .args(["-drive", "file=disk.qcow2,if=virtio"])
        .args(["-netdev", &format!("tap,id=net,ifname={tap},script=no,downscript=no")])
        .args(["-device", &format!("virtio-net-pci,netdev=net,mac={mac}")])
        .args(["-serial", &format!("telnet:127.0.0.1:{port},server=on,wait=off")])
        .arg("-kernel")
        .arg(target.canonicalize().unwrap().join("alpine/boot/vmlinuz-virt"))
        .arg("-initrd")
        .arg(target.canonicalize().unwrap().join("alpine/boot/initramfs-virt"))
        .args([
            "-append",
            "root=/dev/vda rootfstype=ext4 modules=ext4,virtio_blk console=ttyS0 rw quiet",
        ])
        .stdin(Stdio::null());
    Machine(switch.enter(|| command.spawn()).unwrap())
}

fn run_and_grade(target: &Path, programs: &Programs) {
    let home = tempfile::tempdir().unwrap();
    let network = Network::namespaces().unwrap();
    let Network::Namespaces { switch, .. } = &network else { panic!("no switch") };
    call(switch, "ip link set lo up");
    let samples = Arc::new(samples().unwrap());
    let gateway = Gateway::start(&network, Arc::clone(&samples)).unwrap();
    let list = home.path().join("urls.toml");
    fs::write(&list, gateway.url_list(&samples)).unwrap();
    let tasks = siar_core::client::urls::read(&list).unwrap();
    base_image(target, home.path());
    let topology = Topology::new(Kind::Qemu, "disk.qcow2", programs).unwrap();
    let mut machines = Vec::new();
    let mut consoles = Vec::new();
    for (number, node) in (0..).zip(alpines()) {
        let planned = topology.nodes.iter().find(|planned| planned.name == node.name).unwrap();
        let port = FIRST_PORT + number;
        let medium = &planned.files[0].bytes;
        machines.push(boot(switch, target, home.path(), (node, port), medium));
        consoles.push(("127.0.0.1".to_owned(), port));
    }
    let consoles = <[_; 3]>::try_from(consoles).unwrap();
    let mut run = ConsoleRun::new(consoles, "virtual machines of a test".to_owned(), tasks);
    run.has_medium = true;
    run.delay = Duration::from_millis(500);
    run.out = home.path().join("out");
    let (_, results) = switch.enter(|| run.run(&STYLES).map_err(std::io::Error::other)).unwrap();
    for result in results {
        assert!(result.is_complete(), "{result:?}");
        assert_eq!(result.delivered, [4, 4], "{result:?}");
    }
    let grade = grade(&run.out);
    for verdict in &grade.verdicts {
        println!("{verdict:?}");
        assert!(verdict.passed || verdict.item == Item::Report, "{verdict:?}");
    }
    drop(machines);
}
