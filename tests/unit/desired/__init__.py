"""The desired room: texts in, problems with places or a desired state out."""
