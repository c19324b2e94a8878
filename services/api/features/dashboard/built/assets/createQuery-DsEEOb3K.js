import{ay as r,az as a}from"./index-B8ptR3oe.js";function s(e,t){return r(e,a)}export{s as c};
