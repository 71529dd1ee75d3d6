"""How results are looked at. Reads arrays and manifest records; knows no network."""

from stjax.figures.document import write_index as write_index
from stjax.figures.draw import draw_layer as draw_layer
from stjax.figures.draw import draw_record as draw_record
from stjax.figures.drawer import Drawer as Drawer
from stjax.figures.drawer import lacking as lacking
