//! Readers of bytes that are not public, for the fuzz targets of this repository. Not part of the
//! public API: it exists with the feature `fuzzing` alone, and may change in any version.

use std::io::Cursor;

use serde::Serialize;
use serde::de::DeserializeOwned;
use snapline_protocol::fence::Fence;
use snapline_protocol::ids::{BlobId, CheckpointId};

pub use snapline_files::fuzzing::{SinkDirectory, sink_file, sink_files};
pub use snapline_http::fuzzing::{IngestLog, Records};

use crate::state::{Root, codec};
use crate::store::format::{self, blob};
use crate::store::{BlobRef, Manifest, Section, StoreError};

/// The file's name in errors.
const FILE: &str = "the file";

/// Puts a first line with a checksum before a text, like the text files of a store.
#[must_use]
pub fn seal(kind: &str, version: u32, body: &[u8]) -> Vec<u8> {
    format::seal(kind, version, body)
}

/// Reads the file that marks a directory as a store.
///
/// # Errors
/// [`StoreError`].
pub fn read_marker(bytes: &[u8]) -> Result<(), StoreError> {
    format::decode_marker(FILE, bytes)
}

/// Reads a fence.
///
/// # Errors
/// [`StoreError`].
pub fn read_fence(bytes: &[u8]) -> Result<Fence, StoreError> {
    format::decode_fence(FILE, bytes)
}

/// Writes a fence.
#[must_use]
pub fn write_fence(fence: &Fence) -> Vec<u8> {
    format::encode_fence(fence)
}

/// Reads the manifest of a checkpoint.
///
/// # Errors
/// [`StoreError`].
pub fn read_manifest(checkpoint: CheckpointId, bytes: &[u8]) -> Result<Manifest, StoreError> {
    format::decode_manifest(FILE, checkpoint, bytes)
}

/// Writes a manifest.
#[must_use]
pub fn write_manifest(manifest: &Manifest) -> Vec<u8> {
    format::encode_manifest(manifest)
}

/// Verifies a blob.
///
/// # Errors
/// [`StoreError`].
pub fn verify_blob(blob: &BlobRef, bytes: &[u8]) -> Result<(), StoreError> {
    blob::verify(FILE, blob, bytes.len() as u64, &mut Cursor::new(bytes))
}

/// Reads a section of a blob.
///
/// # Errors
/// [`StoreError`].
pub fn read_section(section: &Section, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    blob::read(FILE, section, bytes.len() as u64, &mut Cursor::new(bytes))
}

/// Writes a blob of these sections; returns its bytes, and where the sections are.
#[must_use]
pub fn write_blob(id: BlobId, sections: &[&[u8]]) -> (Vec<u8>, Vec<Section>) {
    let (mut encoder, header) = blob::Encoder::new(id);
    let mut bytes = header.to_vec();
    let mut noted = Vec::new();
    for section in sections {
        noted.push(encoder.section(section));
        bytes.extend_from_slice(section);
    }
    bytes.extend_from_slice(&encoder.finish().0);
    (bytes, noted)
}

/// The name of a store's file, written again; `None` if it is invalid.
#[must_use]
pub fn store_file(name: &str) -> Option<String> {
    let manifest = format::parse_manifest_name(name).map(format::manifest_name);
    manifest.or_else(|| format::parse_blob_name(name).map(format::blob_name))
}

/// Writes a table of contents.
#[must_use]
pub fn write_contents(root: &Root) -> Vec<u8> {
    root.encode()
}

/// Reads a value of a state.
///
/// # Errors
/// What is wrong with it.
pub fn read_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    codec::read(bytes).map_err(|error| error.to_string())
}

/// Writes a value of a state.
///
/// # Errors
/// Why it cannot be written.
pub fn write_value<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    codec::write(value, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}
