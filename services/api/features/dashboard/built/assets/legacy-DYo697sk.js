import{aa as a}from"./index-CtHEGoGZ.js";a();
