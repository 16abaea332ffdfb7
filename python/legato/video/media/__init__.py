"""Pictures and packets: decoding, planes, encoding and copying; the only wing that imports PyAV."""
