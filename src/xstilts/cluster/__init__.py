"""Running on a SLURM cluster: resources, costs, the queue, the driver."""
