import{ay as r,az as a}from"./index-Cyv-Old-.js";function s(e,t){return r(e,a)}export{s as c};
