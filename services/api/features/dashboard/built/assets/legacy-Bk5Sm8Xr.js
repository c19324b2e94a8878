import{ab as a}from"./index-P1bXy-vx.js";a();
