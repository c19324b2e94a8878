import{ay as r,az as a}from"./index-ubgSPqcc.js";function s(e,t){return r(e,a)}export{s as c};
