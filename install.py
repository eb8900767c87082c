"""Run by the WebUI before it starts. Everything needed (torch, gradio, safetensors, numpy, Pillow) comes with it.

Weights are downloaded only when asked for, in the TAESD tab or by `python -m taesd_ext weights`.
"""
