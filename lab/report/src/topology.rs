//! A picture of the network: the nodes around a switch.

use std::fmt::Write as _;

use evidence::chart::escape;
use stage::manifest::{Manifest, NodeEntry, Role};

use crate::words::NetworkWords;

// Lengths in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 330.0;
const BOX: (f64, f64) = (196.0, 84.0);
const SWITCH: (f64, f64) = (300.0, 38.0);

const STYLE: &str = ".ink { fill: #1f2328 } .faint { fill: #656d76 }
@media (prefers-color-scheme: dark) { .ink { fill: #e6edf3 } .faint { fill: #9198a1 }
  .node { fill: #161b22 } .switch { fill: #30363d } }";

/// Draws the nodes of a run as an SVG file: client and gateway above the switch, servers below.
#[must_use]
pub fn to_svg(manifest: &Manifest, words: &NetworkWords) -> String {
    let above: Vec<&NodeEntry> =
        manifest.nodes(Role::Client).chain(manifest.nodes(Role::Gateway)).collect();
    let below: Vec<&NodeEntry> = manifest.nodes(Role::Server).collect();
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH:.0}' height='{HEIGHT:.0}' \
         viewBox='0 0 {WIDTH:.0} {HEIGHT:.0}' role='img' \
         font-family='system-ui, Libertinus Serif, sans-serif' font-size='14'>\n\
         <style>\n{STYLE}\n</style>\n"
    );
    let middle = HEIGHT / 2.0;
    draw_row(&mut svg, &above, 12.0, middle - SWITCH.1 / 2.0, words);
    draw_row(&mut svg, &below, HEIGHT - BOX.1 - 12.0, middle + SWITCH.1 / 2.0, words);
    let (left, top) = ((WIDTH - SWITCH.0) / 2.0, middle - SWITCH.1 / 2.0);
    let label = subnet(manifest)
        .map_or_else(|| words.switch.clone(), |subnet| format!("{}  {subnet}", words.switch));
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<rect class='switch' x='{left:.1}' y='{top:.1}' width='{:.1}' height='{:.1}' rx='6' \
         fill='#d8dee4' stroke='#656d76'/>\n\
         <text class='ink' x='{:.1}' y='{:.1}' text-anchor='middle' fill='#1f2328'>{label}</text>\n\
         </svg>\n",
        SWITCH.0,
        SWITCH.1,
        WIDTH / 2.0,
        middle + 5.0
    );
    svg
}

fn draw_row(
    svg: &mut String,
    nodes: &[&NodeEntry],
    top: f64,
    switch_edge: f64,
    words: &NetworkWords,
) {
    let pitch = WIDTH / nodes.len().max(1) as f64;
    for (index, node) in nodes.iter().enumerate() {
        let x = pitch * (index as f64 + 0.5);
        let edge = if top < switch_edge { top + BOX.1 } else { top };
        let reach = x.clamp((WIDTH - SWITCH.0) / 2.0 + 20.0, f64::midpoint(WIDTH, SWITCH.0) - 20.0);
        let (role, colour) = match node.role {
            Role::Client => (&words.client, "#0072B2"),
            Role::Server => (&words.server, "#009E73"),
            Role::Gateway => (&words.gateway, "#E69F00"),
        };
        let left = x - BOX.0 / 2.0;
        let (name, interface) = (escape(&node.name), escape(&node.interface));
        let address = node.address;
        let _ = write!(
            svg,
            "<path d='M{x:.1} {edge:.1}L{reach:.1} {switch_edge:.1}' stroke='#656d76' \
             stroke-width='2' fill='none'/>\n\
             <rect class='node' x='{left:.1}' y='{top:.1}' width='{:.1}' height='{:.1}' rx='8' \
             fill='#ffffff' stroke='{colour}' stroke-width='2.5'/>\n\
             <text class='ink' x='{x:.1}' y='{:.1}' text-anchor='middle' font-size='16' \
             font-weight='bold' fill='#1f2328'>{name}</text>\n\
             <text class='ink' x='{x:.1}' y='{:.1}' text-anchor='middle' fill='#1f2328'>\
             {interface}: {address}</text>\n\
             <text class='faint' x='{x:.1}' y='{:.1}' text-anchor='middle' fill='#656d76'>{role}</text>\n",
            BOX.0,
            BOX.1,
            top + 26.0,
            top + 48.0,
            top + 70.0
        );
    }
}

/// The network's address, with the assignment's prefix of 24 bits; `None` on loopback.
fn subnet(manifest: &Manifest) -> Option<String> {
    let address = manifest.nodes.first()?.address.to_string();
    let (network, _) = address.rsplit_once('.')?;
    manifest.has_switch.then(|| format!("{network}.0/24"))
}
