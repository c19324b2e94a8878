import{ae as r,af as a}from"./index-P1bXy-vx.js";function s(e,t){return r(e,a)}export{s as c};
