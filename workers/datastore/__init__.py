"""The DataStore: encrypted objects in S3 or in a directory. It holds no key, and knows no owner of anything."""
