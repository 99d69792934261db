//! The flags of `barque image`, each also as `BARQUE_IMAGE_*` in the environment.
//!
//! Turns words into values; what images are is the image store's to say.

use std::error::Error;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use barque_images::{Credential, Keyring, Options, Reference, Registries};
use clap::{Args, Subcommand};

use crate::component_args::Output;

/// Where the registries of a node are told, unless said otherwise.
const REGISTRIES: &str = "/etc/barque/registries.yaml";

/// Images of a node, also while its agent runs.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Where the images of the node are: `images` below the agent's --root-dir.
    #[arg(
        long,
        global = true,
        env = "BARQUE_IMAGE_ROOT",
        default_value = "/var/lib/barque/agent/images",
        value_name = "DIR"
    )]
    root: PathBuf,
    /// Mirrors, certificates and credentials of registries, in the form of k3s' registries.yaml
    /// [default: /etc/barque/registries.yaml, if it is there].
    #[arg(long, global = true, env = "BARQUE_IMAGE_REGISTRIES", value_name = "FILE")]
    registries: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Pulls images, also those that are here: a tag may mean another one now.
    Pull(PullArgs),
    /// Lists images.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Removes names, and images with their last name; by an id, an image with all its names.
    Rm(ImagesArgs),
    /// Loads the images of an archive: that of `barque image save`, `docker save`, or an OCI layout.
    Load(LoadArgs),
    /// Writes images into an archive that `docker load` reads too.
    Save(SaveArgs),
    /// Removes all images that no container has and nobody pinned.
    Prune(PruneArgs),
    /// Prints all that is known of images, as JSON.
    Inspect(ImagesArgs),
    /// Gives an image another name.
    Tag(TagArgs),
}

/// Pulls images.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// As `busybox`, `quay.io/team/app:v1` or `app@sha256:...`.
    #[arg(required = true, value_name = "NAME", value_parser = reference)]
    pub(crate) images: Vec<Reference>,
    /// Who pulls; the password is read from standard input.
    #[arg(long, env = "BARQUE_IMAGE_USERNAME", value_name = "NAME")]
    username: Option<String>,
    /// Credentials by registry, as `docker login` writes them.
    #[arg(long, env = "BARQUE_IMAGE_DOCKER_CONFIG", value_name = "FILE")]
    docker_config: Option<PathBuf>,
    /// The node never removes them by itself.
    #[arg(long, env = "BARQUE_IMAGE_PIN")]
    pub(crate) pin: bool,
    /// The compressed layers are not kept beside the unpacked ones: less disk, but the images cannot be saved.
    #[arg(long, env = "BARQUE_IMAGE_DISCARD_BLOBS")]
    pub(crate) discard_blobs: bool,
}

/// Lists images.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A table, or all that is known as JSON.
    #[arg(short, long, env = "BARQUE_IMAGE_OUTPUT", default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Removes unused images.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Lines, or what is gone as JSON.
    #[arg(short, long, env = "BARQUE_IMAGE_OUTPUT", default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Names images that are here.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Names, ids, or the beginnings of ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Loads an archive.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive, plain or compressed with gzip or zstd [default: standard input].
    #[arg(short, long, env = "BARQUE_IMAGE_INPUT", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

/// Writes an archive.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names, ids, or the beginnings of ids; what is named by its id has no name in the archive.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Where to [default: standard output, unless that is a terminal].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Gives a name.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// A name, an id, or the beginning of an id.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The other name.
    #[arg(value_name = "NAME", value_parser = reference)]
    pub(crate) name: Reference,
}

fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error: barque_images::ReferenceError| error.to_string())
}

impl ImageArgs {
    /// Where the images are and how they are got.
    pub(crate) fn store(&self) -> Result<(PathBuf, Options), Box<dyn Error>> {
        let (file, must_exist) = match &self.registries {
            Some(file) => (file.as_path(), true),
            None => (Path::new(REGISTRIES), false),
        };
        let mut options = Options::default();
        match std::fs::read_to_string(file) {
            Ok(text) => options.registries = Registries::from_yaml(&text)?,
            Err(error) if !must_exist && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("--registries={}: {error}", file.display()).into()),
        }
        Ok((self.root.clone(), options))
    }
}

impl PullArgs {
    /// Who pulls; reads the password if there is a name.
    pub(crate) fn credentials(&self) -> Result<Credentials, Box<dyn Error>> {
        let mut keyring = Keyring::default();
        if let Some(file) = &self.docker_config {
            let json = std::fs::read(file)
                .map_err(|error| format!("--docker-config={}: {error}", file.display()))?;
            keyring.add_docker_config(&json)?;
        }
        let login = match &self.username {
            None => None,
            Some(username) => {
                let mut password = String::new();
                if std::io::stdin().is_terminal() {
                    return Err("--username: the password is read from standard input; pipe it in".into());
                }
                std::io::stdin().read_to_string(&mut password)?;
                let password = password.trim_end_matches(['\n', '\r']).to_owned();
                Some(Credential::Basic { username: username.clone(), password })
            }
        };
        Ok(Credentials { login, keyring })
    }
}

/// Who pulls.
#[derive(Debug)]
pub(crate) struct Credentials {
    login: Option<Credential>,
    keyring: Keyring,
}

impl Credentials {
    /// Those for an image, in the order in which they are tried.
    pub(crate) fn of(&self, image: &Reference) -> Vec<Credential> {
        self.login.iter().cloned().chain(self.keyring.lookup(image)).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        image: ImageArgs,
    }

    fn parse(words: &[&str]) -> Result<ImageArgs, clap::Error> {
        Cli::try_parse_from([&["image"], words].concat()).map(|cli| cli.image)
    }

    #[test]
    fn flags_come_from_the_environment_under_their_own_names() {
        let command = Cli::command();
        let all =
            command.get_subcommands().flat_map(clap::Command::get_arguments).chain(command.get_arguments());
        let mut flags = 0;
        for arg in all.filter(|arg| arg.get_env().is_some()) {
            let name = arg.get_long().unwrap().to_uppercase().replace('-', "_");
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), format!("BARQUE_IMAGE_{name}"));
            flags += 1;
        }
        assert!(flags >= 8, "{flags}");
    }

    #[test]
    fn words_are_understood_or_named() {
        let args = parse(&["pull", "busybox", "quay.io/a:v1", "--root=/data", "--pin"]).unwrap();
        let (root, _) = args.store().unwrap();
        assert_eq!(root, Path::new("/data"));
        let ImageCommand::Pull(pull) = args.command else { panic!("a pull") };
        assert_eq!(pull.images[0].to_string(), "docker.io/library/busybox:latest");
        assert!(pull.pin && pull.credentials().unwrap().of(&pull.images[0]).is_empty());
        assert!(matches!(parse(&["ls", "-o", "json"]).unwrap().command, ImageCommand::List(_)));
        let wrong = parse(&["pull", "Busybox"]).unwrap_err().to_string();
        assert!(wrong.contains("lower case"), "{wrong}");
        let missing = parse(&["--registries=/nowhere", "list"]).unwrap().store().unwrap_err().to_string();
        assert!(missing.contains("--registries=/nowhere"), "{missing}");
        assert!(parse(&["pull"]).is_err() && parse(&[]).is_err());
    }
}
