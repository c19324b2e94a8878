import{ax as r,ay as a}from"./index-mSqqqRKx.js";function s(e,t){return r(e,a)}export{s as c};
