"""Other people's formats: LeRobotDataset v3, robomimic HDF5, rosbag2. Nothing here is imported
before it is used, because each needs a package of its own (`pip install 'robostack[data]'`)."""
