// A chapter that rustdoc shows too has links to items (`crate::Dataflow`). Only rustdoc can resolve
// them, so the book shows their text alone.
for (const link of document.querySelectorAll('a[href^="crate::"]')) {
  link.replaceWith(...link.childNodes);
}
