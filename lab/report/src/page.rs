//! The web page: one file that contains everything it shows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use syntect::highlighting::ThemeSet;
use syntect::html::{ClassStyle, ClassedHTMLGenerator};
use syntect::parsing::SyntaxSet;

use crate::ReportError;
use crate::content::{COMPARISON_PICTURES, Content, NETWORK_PICTURE};

const TEMPLATE: &str = include_str!("../templates/page.html");
const CLASSES: ClassStyle = ClassStyle::SpacedPrefixed { prefix: "code-" };

/// Fills the template with `content` and with `words`, which is TOML text.
///
/// # Errors
/// `words` is no TOML, or the template has an error.
pub fn render(content: &Content, words: &str) -> Result<String, ReportError> {
    let words: toml::Table = words.parse()?;
    let syntaxes = SyntaxSet::load_defaults_newlines();
    let highlighted = |code: &str| highlight(&syntaxes, code);
    let mut programs = Vec::new();
    for program in &content.programs {
        let mut sources = Vec::new();
        for source in &program.sources {
            sources.push(context! { path => source.path, code => highlighted(source.code)? });
        }
        programs
            .push(context! { name => program.name.clone(), mirrors => program.mirrors, sources });
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("page.html", TEMPLATE)?;
    let pictures = content.pictures.clone();
    environment.add_function("svg", move |name: &str| {
        let svg = pictures.get(name).map(|svg| String::from_utf8_lossy(svg).into_owned());
        Value::from_safe_string(svg.unwrap_or_default())
    });
    let pictures = content.pictures.clone();
    environment.add_function("data", move |name: &str| {
        let bytes = pictures.get(name).map_or(&[][..], Vec::as_slice);
        // `infer` does not know SVG, which has no magic number.
        let kind = infer::get(bytes).map_or("image/svg+xml", |kind| kind.mime_type());
        Value::from_safe_string(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
    });
    let page = environment.get_template("page.html")?.render(context! {
        words => Value::from(Serde(words)),
        content => Value::from(Serde(content)),
        programs,
        shared => highlighted(content.shared.code)?,
        server => highlighted(content.server.code)?,
        code_light => theme("InspiredGitHub")?,
        code_dark => theme("base16-eighties.dark")?,
        network => NETWORK_PICTURE,
        comparison => COMPARISON_PICTURES,
    })?;
    Ok(page)
}

fn highlight(syntaxes: &SyntaxSet, code: &str) -> Result<Value, syntect::Error> {
    let plain = syntaxes.find_syntax_plain_text();
    let rust = syntaxes.find_syntax_by_extension("rs").unwrap_or(plain);
    let mut html = ClassedHTMLGenerator::new_with_class_style(rust, syntaxes, CLASSES);
    for line in code.lines() {
        html.parse_html_for_line_which_includes_newline(&format!("{line}\n"))?;
    }
    Ok(Value::from_safe_string(html.finalize()))
}

/// The CSS rules of a colour theme.
fn theme(name: &str) -> Result<Value, syntect::Error> {
    let themes = ThemeSet::load_defaults();
    let theme = themes.themes.get(name).cloned().unwrap_or_default();
    let rules = syntect::html::css_for_theme_with_class_style(&theme, CLASSES)?;
    Ok(Value::from_safe_string(rules))
}
