from command_instance import instance as instance
