"""How results are looked at. Reads arrays and manifest records; knows no network."""

from stjax.figures.draw import SHEETS as SHEETS
from stjax.figures.draw import draw_layer as draw_layer
from stjax.figures.draw import draw_record as draw_record
from stjax.figures.draw import sheet_paths as sheet_paths
from stjax.figures.drawer import Drawer as Drawer
from stjax.figures.drawer import lacking as lacking
from stjax.figures.page import page_paths as page_paths
from stjax.figures.page import write_index as write_index
from stjax.figures.spread import spreads as spreads
from stjax.figures.spread import words as words
