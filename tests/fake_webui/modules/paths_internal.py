models_path = None
