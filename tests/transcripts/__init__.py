"""What programs of macOS 15 print, as files, and a Mac that answers with them."""
