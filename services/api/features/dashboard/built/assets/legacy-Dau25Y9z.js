import{aa as a}from"./index-CKApze_I.js";a();
