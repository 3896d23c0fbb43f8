//! System tests: the real programs in network namespaces. Each test makes its own network.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod delivery;
mod failures;
mod first_steps;
mod hostile_neighbours;
mod hostile_sources;
mod keys;
mod lab;
mod ordinary_machines;
mod output;
mod raw;
mod safe_output;
mod shared_machine;

use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};
use siar_core::event::Style;
use stage::namespace::become_lab_root;
use stage::programs::{Programs, STYLES};

use lab::PROGRAMS;

fn main() {
    let arguments = Arguments::from_args();
    if !arguments.list {
        PROGRAMS.set(Programs::build().unwrap()).unwrap();
        // A user namespace can be entered only before any thread is started.
        if let Err(error) = become_lab_root() {
            println!("no network namespaces here ({error}): system tests are skipped");
            return;
        }
    }
    let mut trials = Vec::new();
    for style in STYLES {
        trials.push(trial(format!("{style}_delivers_every_file"), move || {
            delivery::delivers(style, 0)
        }));
        trials.push(
            trial(format!("{style}_delivers_with_10_percent_loss"), move || {
                delivery::delivers(style, 10)
            })
            .with_ignored_flag(!has("nft")),
        );
        trials.push(trial(format!("{style}_delivers_200_files_at_once"), move || {
            delivery::delivers_200_at_once(style);
        }));
    }
    trials.extend([
        trial("a_large_file_survives_20_percent_loss".into(), delivery::large_file_with_loss)
            .with_ignored_flag(!has("nft")),
        trial("a_killed_server_is_named_and_the_other_completes".into(), failures::killed_server),
        trial("a_late_server_is_served".into(), failures::late_server),
        trial("a_killed_child_fails_its_task_only".into(), || failures::killed_worker(Style::Mp)),
        trial("a_killed_pool_worker_is_replaced".into(), || {
            failures::killed_worker(Style::MpAsync)
        }),
        trial("a_stalled_task_is_given_up".into(), failures::stalled_task),
        trial("workers_end_with_their_parent".into(), failures::workers_end_with_parent),
        trial("without_a_server_the_client_soon_exits_with_1".into(), failures::no_server),
        trial("failures_are_one_line_each".into(), failures::one_line_each),
        trial("local_files_are_sent_without_a_copy".into(), delivery::local_files),
        trial("a_local_file_that_changes_is_reported".into(), delivery::changing_file),
        trial("two_urls_with_one_name_are_both_delivered".into(), delivery::one_name_twice),
        trial("several_servers_on_one_machine".into(), delivery::several_servers),
        trial("a_server_stops_on_a_signal_with_a_summary".into(), delivery::server_stops),
        trial("sealed_files_arrive_where_the_key_is".into(), keys::sealed),
        trial("a_replayed_announcement_is_refused".into(), keys::replayed),
        trial("a_key_that_others_can_read_is_refused".into(), keys::open_key),
        trial("an_unread_dump_does_not_delay_replies".into(), output::unread_dump),
        trial(
            "the_writing_line_appears_with_any_rust_log".into(),
            output::writing_line_with_rust_log,
        ),
        trial("the_log_of_workers_is_shown".into(), output::workers_log),
        trial("lines_come_in_the_scripts_order".into(), output::order_of_lines),
        trial("missing_folders_are_made".into(), first_steps::missing_folders),
        trial("without_internet_there_is_advice".into(), first_steps::no_internet),
        trial("what_runs_in_the_shell_ends_with_it".into(), first_steps::shell_ends_its_programs),
        trial("serve_goes_on_without_input".into(), first_steps::serve_without_input),
        trial("quiet_and_verbose".into(), first_steps::quiet_and_verbose),
        trial("mistyped_values_bring_a_hint".into(), first_steps::hints),
        trial("the_first_process_ends_at_signals".into(), ordinary_machines::first_process),
        trial("workers_start_where_proc_is_masked".into(), ordinary_machines::masked_proc),
        trial(
            "a_full_standard_output_is_a_warning".into(),
            ordinary_machines::full_standard_output,
        ),
        trial("readiness_and_check".into(), ordinary_machines::readiness_and_check),
        trial("odd_files_arrive_as_they_are".into(), ordinary_machines::odd_files),
        trial("a_repeater_does_not_keep_a_late_server_out".into(), hostile_neighbours::repeater),
        trial("exit_after_finishes_what_was_begun".into(), hostile_neighbours::exit_after),
        trial("a_phantom_receiver_is_a_warning".into(), hostile_neighbours::phantom_receiver),
        trial("names_cannot_attack_a_terminal_or_a_shell".into(), safe_output::hostile_names),
        trial("a_service_manager_is_told".into(), safe_output::service_manager),
        trial(
            "foreign_files_under_our_names_are_left_alone".into(),
            shared_machine::foreign_files_under_our_names,
        ),
        trial("a_server_stopped_at_half_a_file".into(), shared_machine::stopped_at_half_a_file),
        trial("keys_that_are_no_secret".into(), shared_machine::keys_that_are_no_secret),
        trial("a_failing_sync_is_no_confirmation".into(), shared_machine::failing_sync),
        trial(
            "no_redirection_leads_from_outside_to_inside".into(),
            hostile_sources::redirects_inside,
        ),
        trial("a_trickling_source_is_given_up".into(), hostile_sources::trickles),
        trial("no_password_of_a_url_is_shown".into(), hostile_sources::password_in_url),
        trial("a_download_replaces_no_file".into(), hostile_sources::names_that_are_taken),
        trial("raw_reaches_a_python_server".into(), raw::raw_to_python)
            .with_ignored_flag(!has("python3")),
        trial("a_python_client_reaches_the_server".into(), raw::raw_from_python)
            .with_ignored_flag(!has("python3")),
    ]);
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let result = thread::spawn(test).join();
        result.map_err(|panic| Failed::from(siar_core::panics::panic_message(panic.as_ref())))
    })
}

fn has(program: &str) -> bool {
    stage::system::find(program).is_some()
}
