import{a5 as a}from"./index-BUniMyR3.js";a();
