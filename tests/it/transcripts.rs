//! What the command line prints, to the letter: `transcripts/*.trycmd`, each a few commands with their output
//! and exit code. `TRYCMD=overwrite cargo test --test it transcripts` writes them anew.

#[test]
fn commands_print_what_their_transcripts_say() {
    let cases = trycmd::TestCases::new();
    // What a user has set in their shell is none of the transcripts' business.
    for variable in ["KLAMM_BOOTSTRAP", "KLAMM_DIR"] {
        cases.env(variable, "");
    }
    cases.env("COLUMNS", "100").env("NO_COLOR", "1").case("tests/it/transcripts/*.trycmd");
}
