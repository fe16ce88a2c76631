"""Mail programs of others deliver through the whole pipeline: what arrives is, byte for byte, what they sent."""
