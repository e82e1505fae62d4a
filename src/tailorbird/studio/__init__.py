"""The web Studio: NiceGUI pages that call only the public HTTP API, like any customer"""
