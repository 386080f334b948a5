"""The science of reconstruction: tables, model, LP text, solvers, people, evaluation. Functions of arrays and tables."""
