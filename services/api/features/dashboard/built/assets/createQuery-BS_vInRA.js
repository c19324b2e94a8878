import{ay as r,az as a}from"./index-uXnYh5pX.js";function s(e,t){return r(e,a)}export{s as c};
