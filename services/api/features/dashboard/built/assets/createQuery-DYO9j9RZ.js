import{av as r,aw as a}from"./index-Co3hZBj6.js";function s(e,t){return r(e,a)}export{s as c};
