"""How results are looked at. Reads arrays and records; knows no network."""

from stjax.figures.draw import draw_record as draw_record
from stjax.figures.draw import lacks_pictures as lacks_pictures
from stjax.figures.drawer import Drawer as Drawer
from stjax.figures.movement import SMALLEST_CLIP as SMALLEST_CLIP
from stjax.figures.movement import Movement as Movement
from stjax.figures.movement import clips as clips
from stjax.figures.movement import load_movement as load_movement
from stjax.figures.movement import movement_path as movement_path
from stjax.figures.movement import save_movement as save_movement
from stjax.figures.page import page_paths as page_paths
from stjax.figures.page import write_index as write_index
from stjax.figures.sheets import SHEETS as SHEETS
from stjax.figures.sheets import draw_layer as draw_layer
from stjax.figures.sheets import sheet_paths as sheet_paths
from stjax.figures.spread import describe_spreads as describe_spreads
from stjax.figures.spread import spreads as spreads
from stjax.figures.views import array_path as array_path
from stjax.figures.views import bare as bare
from stjax.figures.views import picture_paths as picture_paths
