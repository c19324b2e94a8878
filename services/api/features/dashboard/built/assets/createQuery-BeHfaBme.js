import{av as r,aw as a}from"./index-DvT9tINN.js";function s(e,t){return r(e,a)}export{s as c};
