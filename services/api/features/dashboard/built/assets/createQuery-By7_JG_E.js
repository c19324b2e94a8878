import{al as r,am as a}from"./index-Btceylph.js";function s(e,t){return r(e,a)}export{s as c};
