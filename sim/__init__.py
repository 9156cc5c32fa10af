"""MuJoCo simulation behind robostack's Env. Importing it chooses the GL back end."""

from robostack.sim import gl

gl.choose_backend()
