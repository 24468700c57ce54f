"""What tests put on a machine: files of models and programs that stand in for servers."""
